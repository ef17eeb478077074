// Thirteen missions, one for each point of the lecture. `stages` say what is trained: settings beside those of the recipe of
// their activation; `measure` returns what the answer is made of, from what was measured in this page, or null before.
"use strict";

const reached = (view, loss) => view.means.findIndex((value) => value < loss) + 1; // update, counted from 1; 0: never
const times = (norms) => norms[4] / norms[0]; // the output's gradient by C1's
const hasEpoch = (lab) => lab.views.every((view) => view.epochs.length > 0);
const lastVal = (view) => view.epochs.at(-1).val;
const RATES = [0.0006, 0.0025, 0.01, 0.04, 0.16, 0.64];
const stage = (en, it, ...networks) => ({ label: { en, it }, networks });
const orNever = (step) => (step ? n(step) : language === "it" ? "mai" : "never");

const MISSIONS = [
  {
    rooms: ["data-room"],
    stages: [],
    measure: ({ perClass, data }) => {
      const counts = perClass.map(([train]) => train);
      const name = (count) => data.classNames[counts.indexOf(count)];
      const [least, most] = [Math.min(...counts), Math.max(...counts)];
      return { least, most, rarest: name(least), commonest: name(most), ...data.counts };
    },
    en: {
      title: "1 MNIST",
      says: "MNIST has 60,000 training and 10,000 test images of 28 × 28 grey pixels. This page carries a part of them.",
      look: "the digits, and the table of how many there are of each.",
      question: "How many numbers does the network get for one image? Are all digits equally frequent?",
      answer: (v) => `28 × 28 = 784 numbers from 0 to 255. Here are ${n(v.train)} training, ${n(v.val)} validation and ${n(v.test)} test images; of the training images ${n(v.least)} are a ${v.rarest}, and ${n(v.most)} a ${v.commonest}.`,
    },
    it: {
      title: "1 MNIST",
      says: "MNIST ha 60.000 immagini di training e 10.000 di test, di 28 × 28 pixel grigi. Questa pagina ne contiene una parte.",
      look: "le cifre, e la tabella di quante ce ne sono di ciascuna.",
      question: "Quanti numeri riceve la rete per un'immagine? Le cifre sono tutte ugualmente frequenti?",
      answer: (v) => `28 × 28 = 784 numeri da 0 a 255. Qui ci sono ${n(v.train)} immagini di training, ${n(v.val)} di validation e ${n(v.test)} di test; fra quelle di training ${n(v.least)} sono un ${v.rarest}, e ${n(v.most)} un ${v.commonest}.`,
    },
  },
  {
    rooms: ["architecture", "data-room", "training", "performance"],
    stages: [stage("All four steps, two epochs", "Tutti e quattro i passi, due epoche", { activation: "relu", epochs: 2 })],
    measure: (lab) => hasEpoch(lab) && { step: lab.views[0].step, accuracy: lastVal(lab.views[0]).accuracy, ...lab.data.counts },
    en: {
      title: "2 Four steps",
      says: "Architecture, data, training, performance analysis: this page has the four steps as four parts.",
      look: "all four, while it trains.",
      question: "Which images change the weights, and which only judge them?",
      answer: (v) => `The ${n(v.train)} training images changed 61,706 weights in ${n(v.step)} updates. The ${n(v.val)} validation images judged them: ${share(v.accuracy)} right. The ${n(v.test)} test images wait for the button.`,
    },
    it: {
      title: "2 Quattro passi",
      says: "Architettura, dati, addestramento, analisi delle prestazioni: questa pagina ha i quattro passi come quattro parti.",
      look: "tutte e quattro, mentre si addestra.",
      question: "Quali immagini cambiano i pesi, e quali li giudicano soltanto?",
      answer: (v) => `Le ${n(v.train)} immagini di training hanno cambiato 61.706 pesi in ${n(v.step)} aggiornamenti. Le ${n(v.val)} di validation li hanno giudicati: ${share(v.accuracy)} giuste. Le ${n(v.test)} di test aspettano il pulsante.`,
    },
  },
  {
    rooms: ["architecture", "table"],
    stages: [],
    measure: ({ layerTable }) => {
      const [c1, , c3, , c5, f6, output] = layerTable.map((row) => row.weights);
      return { features: c1 + c3, classifier: c5 + f6 + output, c5 };
    },
    en: {
      title: "3 Two blocks",
      says: "LeNet is a convolutional block, which finds features, and a fully connected block, which classifies by them.",
      look: "the layers from left to right, and the table below them.",
      question: "Which block has more weights, and which does more computing?",
      answer: (v) => `The convolutions have ${n(v.features)} weights, the fully connected layers ${n(v.classifier)}; C5 alone has ${n(v.c5)}. But C1 and C3 make most of the multiply-adds, because each of their weights is used at every place.`,
    },
    it: {
      title: "3 Due blocchi",
      says: "LeNet è un blocco convoluzionale, che trova le feature, e un blocco fully connected, che le classifica.",
      look: "gli strati da sinistra a destra, e la tabella qui sotto.",
      question: "Quale blocco ha più pesi, e quale fa più calcoli?",
      answer: (v) => `Le convoluzioni hanno ${n(v.features)} pesi, gli strati fully connected ${n(v.classifier)}; la sola C5 ne ha ${n(v.c5)}. Ma quasi tutte le moltiplicazioni sono in C1 e C3, perché ogni loro peso si usa in ogni posizione.`,
    },
  },
  {
    rooms: ["architecture", "kernels"],
    stages: [stage("Let kernels form", "Formare i kernel", { activation: "relu", epochs: 4 })],
    measure: ({ views: [{ kernels, firstKernels, step }] }) => {
      if (!step) return null;
      const size = (values) => Math.hypot(...values);
      const change = size(kernels.slice(0, 150).map((w, k) => w - firstKernels[k])) / size(firstKernels.slice(0, 150));
      return { change, count: kernels.length };
    },
    en: {
      title: "4 C1: 156 parameters",
      says: "F(i, j, c) = b_c + Σ I(i+m, j+n) w_c(m, n): each of C1's six kernels slides over the image.",
      look: "the kernels, while they form, and the maps that each of them makes of the digit.",
      question: "How many numbers does C1 learn? Do the kernels change much?",
      answer: (v) => `6 kernels of 5 × 5 weights, and 6 biases: ${v.count}. Since the start the kernels have changed by ${share(v.change, 0)} of their size: edges of several directions.`,
    },
    it: {
      title: "4 C1: 156 parametri",
      says: "F(i, j, c) = b_c + Σ I(i+m, j+n) w_c(m, n): ognuno dei sei kernel di C1 scorre sull'immagine.",
      look: "i kernel mentre si formano, e le mappe che ciascuno fa della cifra.",
      question: "Quanti numeri impara C1? I kernel cambiano molto?",
      answer: (v) => `6 kernel di 5 × 5 pesi, e 6 bias: ${v.count}. Dall'inizio i kernel sono cambiati del ${share(v.change, 0)} della loro grandezza: bordi in varie direzioni.`,
    },
  },
  {
    rooms: ["training", "gradients"],
    stages: [
      stage("sigmoid beside tanh, rate 0.02", "sigmoide accanto a tanh, rate 0,02",
        ...["sigmoid", "tanh"].map((activation) => ({ activation, rate: 0.02, schedule: "constant", warmup: 0, epochs: 3 }))),
    ],
    measure: ({ views: [a, b] }) => a?.step >= 20 && b && {
      a: times(a.steps[0].norms), b: times(b.steps[0].norms), step: a.step, lossA: a.means.at(-1), lossB: b.means.at(-1),
    },
    en: {
      title: "5 Sigmoid: vanishing gradients",
      says: "Sigmoid saturates, and multiplies each gradient by a quarter at most: on the way back to C1 it vanishes. tanh is centred on zero.",
      look: "the gradient of each layer (each line in the scale a tenth), and the two losses.",
      question: "How many times smaller is the gradient at C1 than at the output, for sigmoid and for tanh?",
      answer: (v) => `In the first update ${short(v.a)} times for sigmoid, ${short(v.b)} times for tanh. After ${n(v.step)} updates sigmoid's loss is ${short(v.lossA)} (chance level is 2.30), tanh's ${short(v.lossB)}.`,
    },
    it: {
      title: "5 Sigmoide: vanishing gradients",
      says: "La sigmoide satura, e moltiplica ogni gradiente al massimo per un quarto: tornando verso C1 svanisce. tanh è centrata in zero.",
      look: "il gradiente di ogni strato (ogni riga della scala è un decimo), e le due loss.",
      question: "Quante volte è più piccolo il gradiente in C1 che all'uscita, con sigmoide e con tanh?",
      answer: (v) => `Nel primo aggiornamento ${short(v.a)} volte con sigmoide, ${short(v.b)} con tanh. Dopo ${n(v.step)} aggiornamenti la loss di sigmoide è ${short(v.lossA)} (il livello del caso è 2,30), quella di tanh ${short(v.lossB)}.`,
    },
  },
  {
    rooms: ["training", "units"],
    stages: [
      stage("The race: ReLU and sigmoid", "La gara: ReLU e sigmoide", { activation: "relu", epochs: 8 }, { activation: "sigmoid", epochs: 8 }),
      stage("Dead units: ReLU, rate 0.4", "Neuroni spenti: ReLU, rate 0,4", { activation: "relu", rate: 0.4, schedule: "constant", epochs: 2 }),
    ],
    measure: ({ views: [a, b], memory }) => {
      if (b && a.step > 20) memory.race = [1, 0.1].map((loss) => [reached(a, loss), reached(b, loss)]);
      else if (a?.step > 20) memory.dead = [a.probe.at(-1)[2], a.means.at(-1)];
      return memory.race && memory;
    },
    en: {
      title: "6 ReLU: six times as fast, and dead units",
      says: "ReLU is said to converge six times as fast as sigmoid. But a unit whose output is zero for every image has no gradient: it is dead.",
      look: "who is first at a loss of 1, and of 0.1; then, with rate 0.4, the dead units.",
      question: "Is it six times? And how many units of F6 die at rate 0.4?",
      answer: ({ race: [[a1, b1], [a2, b2]], dead }) => `To a loss of 1: ReLU ${orNever(a1)} updates, sigmoid ${orNever(b1)}${a1 && b1 ? `, ${short(b1 / a1)} times as many` : ""}. To 0.1: ${orNever(a2)} and ${orNever(b2)}${a2 && b2 ? `, ${short(b2 / a2)} times` : ""}. ${dead ? `At rate 0.4, ${share(dead[0], 0)} of F6's units are dead, and the loss is ${short(dead[1])}.` : "Now let units die, too."}`,
    },
    it: {
      title: "6 ReLU: sei volte più rapida, e neuroni spenti",
      says: "Si dice che ReLU converga sei volte più in fretta della sigmoide. Ma un neurone che dà zero per ogni immagine non ha gradiente: è spento.",
      look: "chi arriva prima a una loss di 1, e di 0,1; poi, con rate 0,4, i neuroni spenti.",
      question: "Sono sei volte? E quanti neuroni di F6 si spengono con rate 0,4?",
      answer: ({ race: [[a1, b1], [a2, b2]], dead }) => `Fino a una loss di 1: ReLU ${orNever(a1)} aggiornamenti, sigmoide ${orNever(b1)}${a1 && b1 ? `, ${short(b1 / a1)} volte tanti` : ""}. Fino a 0,1: ${orNever(a2)} e ${orNever(b2)}${a2 && b2 ? `, ${short(b2 / a2)} volte` : ""}. ${dead ? `Con rate 0,4 è spento il ${share(dead[0], 0)} dei neuroni di F6, e la loss è ${short(dead[1])}.` : "Ora si facciano spegnere anche i neuroni."}`,
    },
  },
  {
    rooms: ["architecture"],
    stages: [],
    measure: ({ views: [{ layers }] }) => {
      if (!layers) return null;
      const { c1, s2 } = layers;
      const largest = (c, i, j) => Math.max(...[[0, 0], [0, 1], [1, 0], [1, 1]].map(([y, x]) => c1.values[(28 * c + 2 * i + y) * 28 + 2 * j + x]));
      const same = s2.values.filter((value, k) => value === largest(Math.floor(k / 196), Math.floor((k % 196) / 14), k % 14));
      return { same: same.length, all: s2.values.length };
    },
    en: {
      title: "7 Max pooling",
      says: "2 × 2, stride 2: of each square of four values only the largest goes on. 12 20 30 0 / 8 12 2 0 / 34 70 37 4 / 112 100 25 12 becomes …",
      look: "C1's maps and S2's: the same picture, half as wide and high.",
      question: "What does the lecture's example become? Does it hold for the maps of this digit?",
      answer: (v) => `20 30 / 112 37. And here: of S2's ${n(v.all)} values, ${n(v.same)} are the largest of their four in C1.`,
    },
    it: {
      title: "7 Max pooling",
      says: "2 × 2, stride 2: di ogni quadrato di quattro valori passa solo il più grande. 12 20 30 0 / 8 12 2 0 / 34 70 37 4 / 112 100 25 12 diventa …",
      look: "le mappe di C1 e di S2: la stessa figura, larga e alta la metà.",
      question: "Che cosa diventa l'esempio della lezione? Vale anche per le mappe di questa cifra?",
      answer: (v) => `20 30 / 112 37. E qui: dei ${n(v.all)} valori di S2, ${n(v.same)} sono il più grande dei loro quattro in C1.`,
    },
  },
  {
    rooms: ["architecture"],
    stages: [stage("Train, then draw", "Addestrare, poi disegnare", { activation: "relu", epochs: 4 })],
    measure: (lab) => hasEpoch(lab) && (({ confidences, accuracy }) => ({
      accuracy, sure: confidences.reduce((sum, x) => sum + x, 0) / confidences.length, least: Math.min(...confidences),
    }))(lastVal(lab.views[0])),
    en: {
      title: "8 Softmax",
      says: "Softmax turns ten outputs into probabilities between 0 and 1 with sum 1. It is monotone: the class does not change.",
      look: "the bars of the output, for several digits, and for one that you draw badly on purpose.",
      question: "When the network is 98 % sure, is it right 98 % of the time?",
      answer: (v) => `On the validation images it is ${share(v.sure)} sure on average, and right on ${share(v.accuracy)} of them. Of the least clear image it was ${share(v.least, 0)} sure.`,
    },
    it: {
      title: "8 Softmax",
      says: "Softmax trasforma le dieci uscite in probabilità fra 0 e 1, con somma 1. È monotona: la classe non cambia.",
      look: "le barre dell'uscita, per più cifre, e per una disegnata male apposta.",
      question: "Quando la rete è sicura al 98 %, ha ragione nel 98 % dei casi?",
      answer: (v) => `Sulle immagini di validation è sicura in media al ${share(v.sure)}, e ha ragione sul ${share(v.accuracy)} di esse. Dell'immagine meno chiara era sicura al ${share(v.least, 0)}.`,
    },
  },
  {
    rooms: ["training"],
    stages: [
      stage("Only 1,000 images, 40 epochs", "Solo 1.000 immagini, 40 epoche",
        { activation: "relu", rate: 0.02, schedule: "constant", weightDecay: 0, trainImages: 1000, epochs: 40 }),
    ],
    measure: ({ views: [{ epochs }] }) => {
      if (epochs.length < 10) return null;
      const losses = epochs.map(({ val }) => val.loss);
      const least = Math.min(...losses);
      return { least, epoch: losses.indexOf(least) + 1, last: losses.at(-1), train: epochs.at(-1).train };
    },
    en: {
      title: "9 Training, validation, test",
      says: "Training images fit the weights, validation images choose settings and show over-fitting, test images measure, once, at the end.",
      look: "the training loss (line) and the validation loss (dots).",
      question: "Where does the validation loss turn, while the training loss keeps falling?",
      answer: (v) => `It was lowest after epoch ${v.epoch}, ${short(v.least)}, and is ${short(v.last)} now, while the training loss is ${short(v.train.loss)} and ${share(v.train.accuracy)} of the training images are right: they are learned by heart. Now press the test button, once.`,
    },
    it: {
      title: "9 Training, validation, test",
      says: "Le immagini di training adattano i pesi, quelle di validation scelgono le impostazioni e mostrano l'overfitting, quelle di test misurano, una volta, alla fine.",
      look: "la loss di training (linea) e quella di validation (punti).",
      question: "Dove risale la loss di validation, mentre quella di training continua a scendere?",
      answer: (v) => `Era minima dopo l'epoca ${v.epoch}, ${short(v.least)}, e ora è ${short(v.last)}, mentre la loss di training è ${short(v.train.loss)} e il ${share(v.train.accuracy)} delle immagini di training è giusto: imparate a memoria. Ora si prema il pulsante del test, una volta.`,
    },
  },
  {
    rooms: ["data-room"],
    stages: [],
    measure: ({ perClass, data: { counts, classNames } }) => {
      const sizes = Object.values(counts);
      const apart = perClass.map((row) => row.map((count, k) => count / sizes[k])).map(([train, val]) => Math.abs(train - val));
      const most = Math.max(...apart);
      return { most, name: classNames[apart.indexOf(most)], ...counts };
    },
    en: {
      title: "10 55,000 / 5,000 / 10,000",
      says: "MNIST's 60,000 images are split into 55,000 for training and 5,000 for validation; the 10,000 are always the test set. In general: 60 / 20 / 20.",
      look: "the table of the three parts.",
      question: "Are the classes in the parts in the same shares?",
      answer: (v) => `Here: ${n(v.train)} / ${n(v.val)} / ${n(v.test)}. The split is stratified: between training and validation the share of a class differs by ${share(v.most, 2)} at most (${v.name}).`,
    },
    it: {
      title: "10 55.000 / 5.000 / 10.000",
      says: "Le 60.000 immagini di MNIST sono divise in 55.000 di training e 5.000 di validation; le 10.000 sono sempre il test set. In generale: 60 / 20 / 20.",
      look: "la tabella delle tre parti.",
      question: "Le classi hanno la stessa quota in ogni parte?",
      answer: (v) => `Qui: ${n(v.train)} / ${n(v.val)} / ${n(v.test)}. La suddivisione è stratificata: fra training e validation la quota di una classe differisce al massimo di ${share(v.most, 2)} (${v.name}).`,
    },
  },
  {
    rooms: ["training"],
    stages: [
      stage("Five folds of 1,000 images", "Cinque fold di 1.000 immagini",
        ...[0, 1, 2, 3, 4].map((fold) => ({ activation: "relu", batchSize: 32, trainImages: 1000, epochs: 12, fold }))),
    ],
    measure: (lab) => {
      if (lab.views.length < 5 || !hasEpoch(lab)) return null;
      const shares = lab.views.map((view) => lastVal(view).accuracy);
      return { least: Math.min(...shares), most: Math.max(...shares), mean: mean(shares) };
    },
    en: {
      title: "11 Cross-validation",
      says: "If the data set is small, split it into five folds: five networks, each trained on four and tested on the fifth.",
      look: "the five accuracies, each on 200 images that its network has not seen.",
      question: "How much does the accuracy depend on which images are tested?",
      answer: (v) => `From ${share(v.least)} to ${share(v.most)}: one fold alone says little. All thousand images together: ${share(v.mean)}.`,
    },
    it: {
      title: "11 Cross-validation",
      says: "Se il dataset è piccolo, lo si divide in cinque fold: cinque reti, ognuna addestrata su quattro e valutata sul quinto.",
      look: "le cinque accuratezze, ciascuna su 200 immagini che la sua rete non ha visto.",
      question: "Quanto dipende l'accuratezza dalle immagini su cui si valuta?",
      answer: (v) => `Da ${share(v.least)} a ${share(v.most)}: un fold da solo dice poco. Tutte le mille immagini insieme: ${share(v.mean)}.`,
    },
  },
  {
    rooms: ["training"],
    stages: [
      stage("Falls slowly", "Decresce lentamente", { activation: "relu", rate: 0.0003, epochs: 5 }),
      stage("Does not fall", "Non decresce", { activation: "relu", rate: 0.4, schedule: "constant", epochs: 2 }),
      stage("Oscillates", "Oscilla", { activation: "tanh", rate: 1, epochs: 5 }),
    ],
    measure: ({ views: [view], memory, stage: k }) => {
      if (view?.advice && k !== null) (memory.said ??= [])[k] = [view.advice.direction, view.means.at(-1)];
      return memory.said && memory;
    },
    en: {
      title: "12 Three loss curves",
      says: "The loss falls slowly: raise the learning rate. It does not fall, or oscillates: lower it.",
      look: "each curve, and the advice below it. Guess before you read it.",
      question: "Which curve asks for which change?",
      answer: ({ said }) => MISSIONS[11].stages.map(({ label }, k) => said[k] && `${label.en}: ${{ raise: "raise it", lower: "lower it" }[said[k][0]] ?? "the curve does not say"} (loss ${short(said[k][1])}).`).filter(Boolean).join(" "),
    },
    it: {
      title: "12 Tre curve di loss",
      says: "La loss decresce lentamente: aumentare il learning rate. Non decresce, o oscilla: diminuirlo.",
      look: "ogni curva, e il consiglio sotto. Si provi a indovinare prima di leggerlo.",
      question: "Quale curva chiede quale cambiamento?",
      answer: ({ said }) => MISSIONS[11].stages.map(({ label }, k) => said[k] && `${label.it}: ${{ raise: "aumentarlo", lower: "diminuirlo" }[said[k][0]] ?? "la curva non lo dice"} (loss ${short(said[k][1])}).`).filter(Boolean).join(" "),
    },
  },
  {
    rooms: ["training", "sweep"],
    stages: [stage("Six rates, two epochs", "Sei learning rate, due epoche", ...RATES.map((rate) => ({ activation: "relu", rate, epochs: 2 })))],
    measure: (lab) => {
      if (lab.views.length < RATES.length || !hasEpoch(lab)) return null;
      const losses = lab.views.map((view) => lastVal(view).loss);
      const least = Math.min(...losses);
      return { best: RATES[losses.indexOf(least)], least, good: RATES.filter((_, k) => losses[k] < 2 * least) };
    },
    en: {
      title: "13 The right learning rate",
      says: "It is not easy to find the right learning rate. So try several, from small to large, for a short time each.",
      look: "the validation loss by rate.",
      question: "Which rate is best, and which come near it?",
      answer: (v) => `${short(v.best)}, with a validation loss of ${short(v.least)}. Below twice that: ${v.good.map(short).join(", ")}. Too small a rate learns slowly, too large a one not at all.`,
    },
    it: {
      title: "13 Il learning rate giusto",
      says: "Non è facile individuare il learning rate corretto. Se ne provano dunque diversi, da piccoli a grandi, ciascuno per poco tempo.",
      look: "la loss di validation per learning rate.",
      question: "Quale learning rate è il migliore, e quali gli vanno vicino?",
      answer: (v) => `${short(v.best)}, con una loss di validation di ${short(v.least)}. Sotto il doppio: ${v.good.map(short).join(", ")}. Uno troppo piccolo impara piano, uno troppo grande per niente.`,
    },
  },
];
